# The image golden, written by `runner build --dockerfile` from libs.yaml and its lock.
#
#   docker build -t golden .
#
# makes the image that runner makes as localhost/golden:HASH: the same packages in the same
# versions, verified in the same way. BuildKit and the classic builder both can.
# It is for linux/amd64.
#
# A proxy              --build-arg https_proxy=http://HOST:PORT  (also http_proxy, no_proxy; they stay nowhere)
# A mirror or proxy of this machine's loopback        --network host
# A private authority  copy its certificates, with all others that are to be trusted, to tools/ca.pem.
# A private index      --build-arg UV_DEFAULT_INDEX=https://HOST/simple  (further ones: UV_INDEX, separated by blanks).
#                      These are seen in the stages `tools` and `pip` only, of which the image gets files, not settings.
#                      They stay in this machine's build cache, so a password belongs into a variable that is short-lived.

# How apt installs here: what is listed and no more, without manuals and translations.
ARG APT_UPDATE="apt-get -q update -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=3"
ARG APT_INSTALL="apt-get -q -y install --no-install-recommends --allow-downgrades -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    -o Dpkg::Options::=--path-exclude=/usr/share/man/* -o Dpkg::Options::=--path-exclude=/usr/share/info/* \
    -o Dpkg::Options::=--path-exclude=/usr/share/doc/* -o Dpkg::Options::=--path-include=/usr/share/doc/*/copyright \
    -o Dpkg::Options::=--path-exclude=/usr/share/locale/* \
    -o Dpkg::Options::=--path-include=/usr/share/locale/locale.alias \
    -o Dpkg::Options::=--path-exclude=/usr/share/lintian/*"
ARG TIDY="rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log /var/log/fontconfig.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old \
    /var/lib/dpkg/*-old"

# The base, by the digest that the lock has.
FROM debian:bookworm-slim@sha256:2222222222222222222222222222222222222222222222222222222222222222 AS system
USER 0
WORKDIR /
ARG DEBIAN_FRONTEND=noninteractive
ARG APT_UPDATE
ARG APT_INSTALL
ARG TIDY

# Python for the bootstrapper, and certificates of public authorities.
RUN $APT_UPDATE && $APT_INSTALL \
      python3=3.11.2-1+b1 \
 && $TIDY
ENV LANG=${LANG:-C.UTF-8}

# The user that scripts run as. By hand: useradd dates the entry, so every build would differ.
RUN grep -q '^[^:]*:[^:]*:1000:' /etc/group || echo 'runner:x:1000:' >>/etc/group; \
    grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo 'runner:x:1000:1000::/home/runner:/bin/sh' >>/etc/passwd; \
    mkdir -p /home/runner && chown 1000:1000 /home/runner


# uv, for Python packages, and py-rattler, for conda packages; by their hashes, with the pip that Python brings.
FROM system AS tools
ARG DEBIAN_FRONTEND=noninteractive
ARG APT_UPDATE
ARG APT_INSTALL
ARG TIDY
RUN /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || { $APT_UPDATE && $APT_INSTALL python3-venv; }
ARG UV_DEFAULT_INDEX
COPY tools/ /tools/
RUN [ ! -e /tools/ca.pem ] || export SSL_CERT_FILE=/tools/ca.pem PIP_CERT=/tools/ca.pem; \
    /usr/bin/python3 -m venv /tools/venv \
 && /tools/venv/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \
      ${UV_DEFAULT_INDEX:+--index-url "$UV_DEFAULT_INDEX"} --require-hashes -r /tools/requirements.txt


# conda packages, from files, into /opt/conda. What activating them sets is ENV below, or the build ends here.
FROM tools AS conda
COPY conda/ /mnt/
RUN mkdir -p /mnt/out && ln -s /tools/venv/lib/python3*/site-packages /mnt/rattler \
 && /tools/venv/bin/python -I -X utf8 /mnt/in/conda_install.py \
 && { grep -Fxq -f /mnt/in/environment /mnt/out/answers \
      || { cat /mnt/out/answers >&2; echo 'runner: conda/in/environment has other variables' >&2; exit 1; }; }


# What was built and unpacked, without what that took.
FROM system AS libraries
COPY --from=conda /opt/conda/ /opt/conda/
ENV PATH=/opt/conda/bin:$PATH CONDA_PREFIX=/opt/conda
ENV GDAL_DATA="/opt/conda/share/gdal"


# Python packages: those of pip/requirements.txt are all there is to install, each file by its hash, compiled
# to bytecode, into a virtual environment that sees the system's packages.
FROM libraries AS pip
COPY --from=tools /tools/ /tools/
COPY pip/ /mnt/in/src/
WORKDIR /mnt/in/src
ARG UV_DEFAULT_INDEX
ARG UV_INDEX
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_NO_CONFIG=1
RUN [ ! -e /tools/ca.pem ] || export SSL_CERT_FILE=/tools/ca.pem PIP_CERT=/tools/ca.pem; \
    /tools/venv/bin/uv venv -q --python /opt/conda/bin/python --system-site-packages /opt/venv \
 && /tools/venv/bin/uv pip install --python /opt/venv/bin/python --no-deps -r requirements-unhashed.txt \
 && find /opt/venv/lib -name '*.py' | /opt/venv/bin/python -I /tools/bytecode.py timestamp


# The image, but for the proof that all of it loads.
FROM libraries AS complete
COPY --from=pip /opt/venv/ /opt/venv/
ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv


# The proof, in a stage that is thrown away: finish.py puts the bootstrapper into /opt/runner and loads every
# declared library as the run-time user; check.py fails the build when one does not load, or when what is
# installed is not what the lock says.
FROM complete AS verified
COPY verify/ /mnt/in/
RUN chmod -R a+rX /mnt/in && mkdir -p /mnt/out \
 && /usr/bin/python3 -I -S /mnt/in/finish.py \
 && /usr/bin/python3 -I -S /mnt/in/check.py


# The image: it gets the bootstrapper and the manifest only from a proof that went well.
FROM complete
COPY --from=verified /opt/runner/ /opt/runner/
LABEL runner.base.name="debian:bookworm-slim" \
    runner.contract="1" \
    runner.libraries="[[\"conda\", \"numpy\", \"2.0\"], [\"pip\", \"tool\", \"\"]]" \
    runner.libs="HASH" \
    runner.name="golden" \
    runner.python="/usr/bin/python3" \
    runner.python.version="3.11.2" \
    runner.user="1000:1000" \
    runner.conda.python="/opt/conda/bin/python" \
    runner.conda.python.version="3.12.1"
USER 1000:1000
WORKDIR /home/runner
ENTRYPOINT []
CMD ["/bin/bash"]
