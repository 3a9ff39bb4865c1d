"""How the installation sets up Django's own apps."""

from django.contrib.admin.apps import SimpleAdminConfig


class ConsoleConfig(SimpleAdminConfig):
    """Has `/admin/` served by `config.console.ConsoleSite`."""

    default_site = "config.console.ConsoleSite"
