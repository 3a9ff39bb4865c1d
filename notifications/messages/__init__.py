"""Messages to people as tasks: mail, SMS, push and webhook, from texts or templates."""
