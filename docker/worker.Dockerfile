# A worker: the supervisor, and the trainer with torch. The wheels of torch contain the CUDA libraries, of CUDA 13 since torch 2.11: on
# GPUs the host needs NVIDIA's driver 580 or newer. Older drivers need torch from PyTorch's index for an older CUDA, such as cu126.
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 thaw
WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY thawline ./thawline
COPY service ./service
COPY trainer ./trainer
COPY search_spaces ./search_spaces
COPY migrations ./migrations
RUN pip install --no-cache-dir -c constraints.txt '.[trainer]' && install -d -o thaw /var/lib/thaw
USER thaw
ENV THAW_HOME=/var/lib/thaw
# For NVIDIA's container runtime: CUDA, and NVML with nvidia-smi, by which the worker finds its GPUs.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
STOPSIGNAL SIGTERM
CMD ["thaw", "worker"]
