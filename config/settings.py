"""Settings, all from the environment through `config.env`; see docs/reference/settings.md."""

from __future__ import annotations

import sys

from kombu import Exchange, Queue

from config.env import BASE_DIR, EmbeddedPaths, Environment
from config.logging import logging_config
from notifications.conf import NotificationsConf
from notifications.http_requests.conf import HttpRequestConf
from notifications.messages.conf import MessagesConf
from notifications.mqtt.conf import MqttConf
from notifications.webhooks.conf import WebhooksConf
from scheduler.conf import SchedulerConf
from scheduler.reports.conf import ReportsConf
from tasks_app.conf import TasksConf

env = Environment()
VAR_DIR = env.path("TASKMILL_VAR", BASE_DIR / "var")
EMBEDDED = EmbeddedPaths(VAR_DIR)
IS_EMBEDDED = not env.text("DATABASE_URL")

SECRET_KEY = env.secret_key(EMBEDDED)
SECRET_KEY_FALLBACKS = list(env.words("SECRET_KEY_FALLBACKS"))
DEBUG = False
PORT = env.text("PORT", "8000")
PUBLIC_URL = env.text("TASKMILL_PUBLIC_URL", f"http://127.0.0.1:{PORT}").rstrip("/")
ALLOWED_HOSTS = list(env.words("TASKMILL_ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]")))
CSRF_TRUSTED_ORIGINS = list(env.words("TASKMILL_TRUSTED_ORIGINS"))
_IS_HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if _IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _IS_HTTPS
SESSION_COOKIE_SAMESITE = "Lax"
if env.flag("TASKMILL_BEHIND_PROXY"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

TASKMILL = env.settings(TasksConf, prefix="TASKMILL_")
NOTIFICATIONS = env.settings(NotificationsConf, prefix="TASKMILL_")

MQTT = env.settings(MqttConf, prefix="MQTT_")
for _name, _fix in MQTT.faults():
    env.fault(_name, _fix)
TASKMILL_WEBHOOKS = env.settings(WebhooksConf, prefix="TASKMILL_WEBHOOK_")
TASKMILL_HTTP_REQUEST = env.settings(HttpRequestConf, prefix="TASKMILL_HTTP_REQUEST_")
TASKMILL_NOTIFY = env.settings(MessagesConf, prefix="TASKMILL_NOTIFY_")
for _name, _fix in TASKMILL_NOTIFY.faults(has_mail=bool(env.text("EMAIL_URL"))):
    env.fault(_name, _fix)
SCHEDULER = env.settings(SchedulerConf, prefix="TASKMILL_SCHEDULER_")
REPORTS = env.settings(ReportsConf, prefix="TASKMILL_REPORT_")
for _name, _fix in REPORTS.faults(has_mail=bool(env.text("EMAIL_URL"))):
    env.fault(_name, _fix)

_mail = env.mail("EMAIL_URL")
EMAIL_BACKEND = _mail.backend
EMAIL_HOST, EMAIL_PORT = _mail.host, _mail.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.user, _mail.password
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.has_starttls, _mail.has_tls
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = SERVER_EMAIL = REPORTS.sender

INSTALLED_APPS = [
    "config.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_results",
    "django_celery_beat",
    "channels",
    "tasks_app",
    "notifications",
    "scheduler",
    *env.apps("TASKMILL_APPS"),
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.static.StaticFilesMiddleware",
    "tasks_app.api.middleware.RequestIdMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

CSRF_FAILURE_VIEW = "tasks_app.api.problems.csrf_failure"
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

_database = env.database("DATABASE_URL", EMBEDDED)
DATABASES = {
    "default": {
        "ENGINE": "config.postgresql",
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,  # config.postgresql checks
        **_database,
        "OPTIONS": {
            "connect_timeout": 5,  # seconds; with the next, as `db.connection_parameters` has it
            "tcp_user_timeout": 10_000,  # ms until a server that vanished in silence is given up
            **_database.get("OPTIONS", {}),
            "prepare_threshold": 5,  # or psycopg prepares nothing, see db.prepared_cursor
            "pool": {"min_size": 1, "max_size": 8, "timeout": 5, "max_idle": 60},
            "options": "-c statement_timeout=30000 -c lock_timeout=5000 "
            "-c idle_in_transaction_session_timeout=30000",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

BROKER_URL = env.url(
    "BROKER_URL",
    f"redis+socket://{EMBEDDED.valkey_socket}",
    ("amqp", "amqps", "pyamqp", "redis", "rediss", "redis+socket"),
)
REDIS_URL = env.url(
    "REDIS_URL", f"unix://{EMBEDDED.valkey_socket}?db=1", ("redis", "rediss", "unix")
)
IS_RABBITMQ = BROKER_URL.startswith(("amqp", "pyamqp"))
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 16_777_216
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"] if not _IS_HTTPS else []

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tasks_app.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tasks_app.api.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["tasks_app.api.throttling.ApiKeyThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["tasks_app.api.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tasks_app.api.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "tasks_app.api.schema.ApiSchema",
    "EXCEPTION_HANDLER": "tasks_app.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Taskmill",
    "DESCRIPTION": "Submit work over HTTP, watch it live, cancel, retry and schedule it.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "PREPROCESSING_HOOKS": ["tasks_app.api.schema.only_api"],
    "POSTPROCESSING_HOOKS": ["tasks_app.api.schema.complete"],
}

TASKS = {"default": {"BACKEND": "tasks_app.django_tasks.Backend", "QUEUES": []}}
"""Django's task framework, or its backport, lands here; read where an app uses it."""

CELERY_BROKER_URL = BROKER_URL
CELERY_RESULT_BACKEND = "tasks_app.execution.results.TaskmillBackend"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_DEFAULT_EXCHANGE = "taskmill"
CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 4  # docs/adr/0019-bundles.md
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_CONSUMER = "tasks_app.execution.consumer:Consumer"
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 30.0
CELERY_WORKER_LOST_WAIT = 1.0
CELERY_WORKER_SEND_TASK_EVENTS = env.flag("TASKMILL_CELERY_EVENTS")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_HEARTBEAT = 30
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 10
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"confirm_publish": True} if IS_RABBITMQ else {"visibility_timeout": 3600, "socket_timeout": 30}
)
CELERY_BEAT_SCHEDULER = "scheduler.beat:Scheduler"
CELERY_DB_REUSE_MAX = sys.maxsize  # config.celery gives them back for less
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum" if IS_RABBITMQ else None


def celery_queue(name: str) -> Queue:
    """Give the broker queue of a Taskmill queue: quorum on RabbitMQ, plain on Valkey or Redis."""
    arguments = {"x-queue-type": "quorum"} if IS_RABBITMQ else None
    return Queue(name, Exchange("taskmill", "topic"), routing_key=name, queue_arguments=arguments)


BROKER_QUEUE = celery_queue
"""The same under a name that `django.conf.settings` shows: tasks_app does not import config."""


LOGGING_CONFIG = None
logging_config(
    json_lines=env.flag("TASKMILL_LOG_JSON"), level=env.text("TASKMILL_LOG_LEVEL", "INFO")
)
MISSPELT_VARIABLES = env.misspelt()
env.finish()
