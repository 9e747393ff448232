# A worker: the supervisor, and the trainer with torch. The wheels of torch contain the CUDA libraries.
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 thaw
WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY service ./service
COPY trainer ./trainer
COPY search_spaces ./search_spaces
COPY migrations ./migrations
RUN pip install --no-cache-dir -c constraints.txt '.[trainer]' && install -d -o thaw /var/lib/thaw
USER thaw
ENV THAW_HOME=/var/lib/thaw
STOPSIGNAL SIGTERM
CMD ["thaw", "worker"]
