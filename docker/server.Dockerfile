# The server. Needs neither torch nor a GPU.
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 thaw
WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY thawline ./thawline
COPY service ./service
COPY trainer ./trainer
COPY search_spaces ./search_spaces
COPY migrations ./migrations
RUN pip install --no-cache-dir -c constraints.txt . && install -d -o thaw /var/lib/thaw
USER thaw
ENV THAW_HOME=/var/lib/thaw
EXPOSE 8000
CMD ["thaw", "serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "0"]
