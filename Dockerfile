# docker build -t dreambooth .
# docker run --gpus all -v "$PWD:/data" dreambooth train --model sd-v1-4.ckpt --photos photos/rex --class-word dog
# The folder that is mounted must be writable for user 1000.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 trainer && install --directory --owner trainer /data
WORKDIR /opt/dreambooth

# The largest layer first: it changes only with the version of torch. For GTX 10 and V100: --build-arg TORCH_INDEX=.../cu126
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
COPY constraints.txt .
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" --index-url "$TORCH_INDEX"

COPY pyproject.toml README.md LICENSE ./
COPY LICENSES LICENSES
COPY src src
RUN pip install --no-cache-dir -c constraints.txt .

USER trainer
WORKDIR /data
ENTRYPOINT ["dreambooth"]
CMD ["--help"]
