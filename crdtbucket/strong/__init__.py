"""Strong mode: a shared Redis as one more replica, and what happens when it is slow or gone."""
