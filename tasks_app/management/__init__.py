"""Running the platform: embedded servers, supervision, first start, diagnosis, commands."""
