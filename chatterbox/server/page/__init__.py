"""The web page at `/` and the reference at `/docs`: static files, and the routes that send them."""
