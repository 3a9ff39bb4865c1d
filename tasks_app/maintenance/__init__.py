"""The maintain loop: time passes, messages and workers get lost, and tasks still end."""
