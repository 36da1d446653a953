"""What will be spoken: normalise, tags, split, tokenise. Pure, linear time."""
