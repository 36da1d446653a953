"""Which graphs, from where, in which session, with which provider options."""
