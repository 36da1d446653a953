"""Sentences for evaluating a model. None of them is in the training data."""

# ruff: noqa: E501 - a sentence is a line

SHORT = [
    "The baker opens his shop at six in the morning.",
    "My sister bought a green coat last winter.",
    "The children were playing in the garden all day.",
    "Please put the books back on the shelf.",
    "A small boat was waiting near the bridge.",
    "We walked along the river until it got dark.",
    "The doctor said that she would be fine.",
    "Nobody knew where the old road ended.",
    "There is fresh bread on the kitchen table.",
    "He looked at the letter for a long time.",
    "The train to the city leaves in an hour.",
    "I have never seen so many birds before.",
    "Our neighbors are building a new house.",
    "The music stopped and everyone went home.",
    "She keeps her keys in a wooden box.",
    "The mountain was covered with snow.",
    "Could you open the window for me?",
    "They sat by the fire and told stories.",
    "The teacher wrote a question on the board.",
    "It was the best meal we had all week.",
    "Do you remember the name of that street?",
    "The horse ran across the open field.",
    "His brother works in a large hospital.",
    "You should drink more water in summer.",
    "The market was full of fruit and flowers.",
    "A cold wind came down from the north.",
    "The king gave the farmer a bag of gold.",
    "I think we should wait until tomorrow.",
    "The dog slept under the table.",
    "She laughed and closed the door behind her.",
    "What would you like to eat tonight?",
    "The film was longer than I expected.",
    "Two men carried the piano up the stairs.",
    "He learned to swim when he was a boy.",
    "The lights went out during the storm.",
    "We need a better plan for the future.",
    "The soldiers marched through the village.",
    "Her voice was soft and very clear.",
    "This machine can do the work of many people.",
    "The sun came out after the rain.",
    "Let me show you the way to the station.",
    "The old man smiled and shook his head.",
    "They found the missing child in the forest.",
    "Every morning she reads the newspaper.",
    "The water in the lake is deep and cold.",
    "He spoke about the history of the town.",
    "I left my hat in the back of the car.",
    "The price of coffee has gone up again.",
    "A good friend always tells the truth.",
    "The ship reached the harbor before night.",
]

LONG = [
    "When the rain finally stopped, the whole family went outside to look at the damage that the storm had done to the roof.",
    "The young woman who lives next door told me that she is going to move to another country at the end of the year.",
    "If you follow this path for about an hour, you will come to a small church that stands on the top of a hill.",
    "The company wants to build a new factory near the river, but most of the people in the town are against the plan.",
    "He had been working on the same problem for many years before he understood that the answer was in front of his eyes.",
    "We took the last bus home, and by the time we arrived everyone in the house was already asleep.",
    "The book describes the life of a poor fisherman who leaves his village to look for his lost brother.",
    "Although the weather was bad, more than a thousand people came to the square to hear the president speak.",
    "My grandmother used to say that a house without books is like a room without any windows.",
    "The children ran down to the beach, took off their shoes, and jumped into the water without waiting for us.",
    "In the middle of the night a loud noise woke us up, and we could hear somebody walking around in the kitchen.",
    "She opened the letter slowly, read it twice, and then put it away without saying a single word.",
]

NUMBERS = [
    "The meeting begins at 9:30 in the morning.",
    "There are 365 days in a year.",
    "She was born on May 4, 1987.",
    "The house has 12 rooms and 3 doors.",
    "It costs $25 a month.",
    "We drove 480 miles in 2 days.",
    "About 60% of the people agreed.",
    "The tower is 150 feet high.",
    "He paid 1,200 dollars for the car.",
    "Call me at 5:45 in the evening.",
    "In 1945 the war came to an end.",
    "The box weighs 17.5 pounds.",
]

SETS = {"short": SHORT, "long": LONG, "numbers": NUMBERS}

REFERENCE = (
    "This is the voice that the model is asked to take on. It reads a few plain sentences, so "
    "that its pitch and its color can be heard. The evening was quiet, and only the clock on the "
    "wall made a sound."
)
