"""An app with tasks of Django's task framework."""
