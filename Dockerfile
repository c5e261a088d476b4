# The sidecar in a small image without a shell, run by an ordinary user.
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

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /pillion /pillion
# Inbound and outbound as the documentation uses them. The admin API is on loopback and not for others.
EXPOSE 8000 15001
ENTRYPOINT ["/pillion"]
CMD ["run", "--config", "/etc/pillion/pillion.yaml"]
