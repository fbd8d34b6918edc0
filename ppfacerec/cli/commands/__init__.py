"""What each command does; imported when it is asked for, since most need Paddle."""
