"""What does a person with a browser find at `/`? Static files, and the routes that send them.

Knows nothing of the server: the page calls it as any other client does.
"""
