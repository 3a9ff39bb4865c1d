"""The composition root of the tasks app: plugs the ports together once Django is ready."""

from __future__ import annotations

from typing import Final

from django.apps import AppConfig

LOOPS: Final = {
    "dispatch": "tasks_app.dispatch.loop.make_work",
    "maintain": "tasks_app.maintenance.loop.make_work",
    "relay": "tasks_app.relay.loop.make_work",
}


class TasksConfig(AppConfig):
    """The tasks app."""

    name = "tasks_app"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, give handlers their ports, and discover them."""
        from tasks_app import checks, registry  # noqa: F401 - importing checks registers them
        from tasks_app.conf import conf
        from tasks_app.engine_loops import EngineLoop, declare_loop
        from tasks_app.management.upgrading import wait_for_migrations
        from tasks_app.services.handles import submit
        from tasks_app.services.measuring import declare_platform_metrics
        from tasks_app.services.spawning import spawn_child
        from tasks_app.testing import run_handler

        registry.Handler.submit_port = submit
        registry.Handler.spawn_port = staticmethod(spawn_child)
        registry.Handler.test_run_port = run_handler
        registry.discover()
        if modules := conf().adopt:
            from tasks_app.adoption import adopt_modules

            adopt_modules(modules)
        declare_platform_metrics()
        wait_for_migrations(self)
        for name, work in LOOPS.items():
            declare_loop(EngineLoop(name=name, work=work))
