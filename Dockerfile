FROM python:3.11.14-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1
RUN useradd --create-home --uid 10001 taskmill
WORKDIR /app
COPY requirements.txt .
RUN pip install --disable-pip-version-check -r requirements.txt
COPY --chown=taskmill:taskmill . .
USER taskmill
EXPOSE 8000
CMD ["sh", "-c", "exec uvicorn config.asgi:application --host 0.0.0.0 --port ${PORT:-8000} --loop uvloop --http config.http:Protocol --lifespan off --ws-max-size 262144 --ws-per-message-deflate false --no-access-log --timeout-graceful-shutdown 10"]
