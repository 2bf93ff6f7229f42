"""Request and response bodies: the columns that a version takes, and the two protocols that carry them."""
