# ddnsr on the processor, without CUDA:
#   docker build -t ddnsr .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" -v ddnsr-models:/models ddnsr upscale photo.jpg
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv
COPY constraints.txt pyproject.toml weights.toml README.md LICENSE NOTICE /source/
COPY LICENSES /source/LICENSES
COPY ddnsr_cli /source/ddnsr_cli
RUN python -m venv --without-pip /opt/ddnsr \
    && uv pip install --no-cache --python /opt/ddnsr --torch-backend=cpu -c /source/constraints.txt /source \
    # headers and tests of PyTorch: 145 MB that only compilers and its developers use
    && cd /opt/ddnsr/lib/python*/site-packages/torch && rm -r include test

FROM python:3.11-slim
COPY --from=build /opt/ddnsr /opt/ddnsr
# Fetched models live in a volume of their own, which whoever runs the container may write to.
RUN useradd --uid 1000 ddnsr && mkdir --mode=1777 /models /work
ENV PATH=/opt/ddnsr/bin:$PATH HF_HOME=/models
VOLUME /models
WORKDIR /work
USER ddnsr
ENTRYPOINT ["ddnsr"]
CMD ["--help"]
