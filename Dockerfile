# The sidecar in an image of about 12 MB: the binary and the libraries it is linked to, run by an ordinary user.
#
#   docker build --tag pillion .
#   docker run --volume "$PWD/my-service.yaml:/etc/pillion/pillion.yaml:ro" pillion

FROM rust:1.95-bookworm AS build
# zlib-ng is built with it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The dependencies first, in a layer that stays as long as no manifest changes: our own crates are empty here.
COPY Cargo.toml Cargo.lock ./
COPY filters/Cargo.toml filters/
RUN mkdir -p src filters/src \
    && touch src/lib.rs filters/src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --bin pillion

COPY config/defaults.yaml config/
COPY filters/src filters/src
COPY src src
# Newer than the empty ones, or cargo would take those for the real ones.
RUN touch src/lib.rs src/main.rs filters/src/lib.rs \
    && cargo build --release --locked --bin pillion \
    && strip -o /pillion target/release/pillion

# Everything else in the image: the loader and the libraries, at the paths where the binary looks for them, which differ by
# architecture. No nsswitch.conf: glibc 2.35 and newer then reads /etc/hosts and asks DNS, with code of its own. No
# certificates: nothing here speaks TLS yet.
RUN mkdir -p /root-fs/etc/pillion \
    && ldd /pillion | grep -o '/[^ ]*' | xargs cp --parents --dereference --target-directory /root-fs
# The build fails if that is not enough to run, or more than we promise.
RUN cp -r /root-fs /image \
    && cp /pillion /image \
    && chroot --userspec 65532:65532 /image /pillion --version \
    && bytes=$(du --summarize --bytes /image | cut --fields 1) \
    && echo "The image holds $bytes bytes." \
    && test "$bytes" -lt 25000000

FROM scratch
# First what stays the same from one version to the next.
COPY --from=build /root-fs /
COPY --from=build /pillion /pillion
# A number, because Kubernetes (runAsNonRoot) cannot tell from a name that it is not root's. There is no /etc/passwd either.
USER 65532:65532
# Inbound as the documentation uses it. Outbound and the admin API are on loopback: the app's, which shares this network.
EXPOSE 8000
ENTRYPOINT ["/pillion"]
CMD ["run", "--config", "/etc/pillion/pillion.yaml"]
