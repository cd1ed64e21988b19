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

# Debian packages of `apt`, with what they need.
RUN $APT_UPDATE && $APT_INSTALL \
      procps=2:4.0.2-3 \
 && $TIDY


# The image, but for the proof that all of it loads.
FROM system AS complete

# Variables of `env`.
ENV TZ="UTC"


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
    runner.libraries="[[\"apt\", \"procps\", \"2:4.0.2-3\"]]" \
    runner.libs="HASH" \
    runner.name="golden" \
    runner.python="/usr/bin/python3" \
    runner.python.version="3.11.2" \
    runner.user="1000:1000"
USER 1000:1000
WORKDIR /home/runner
ENTRYPOINT []
CMD ["/bin/bash"]
