"""Subcommands of ``ppfacerec`` that have a module of their own: arguments here, work elsewhere, imported when run."""
