"""What each command does; imported on use, since most need Paddle."""
