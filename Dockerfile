# docker build -t realnvp .                              the CPU build of PyTorch
# docker build -t realnvp --build-arg TORCH=cu128 .      a GPU build: docker run --gpus all
# docker run -v "$PWD:/work" realnvp sample mnist        any verb; files are read and written in /work
# docker run -p 7860:7860 realnvp studio --host 0.0.0.0
# docker run -p 8000:8000 -v "$PWD:/work" --entrypoint uvicorn realnvp app:app --host 0.0.0.0
#                                                        scores over HTTP: docs/how-to/serving.md
FROM python:3.12-slim

ARG TORCH=cpu
RUN pip install --no-cache-dir torch torchvision --index-url "https://download.pytorch.org/whl/${TORCH}"

COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[studio,codec,parquet,hub]" fastapi uvicorn && rm -r /source

RUN useradd --create-home realnvp && mkdir /work && chown realnvp /work
USER realnvp
WORKDIR /work
EXPOSE 7860 8000
ENTRYPOINT ["realnvp"]
CMD ["--help"]
