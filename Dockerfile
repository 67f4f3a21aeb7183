# syntax=docker/dockerfile:1
FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY router router
COPY config config
COPY adapters adapters
COPY admin admin
COPY gateway gateway
COPY loadtest loadtest
COPY tests tests
COPY benches benches
# rust-toolchain.toml stays outside: it would fetch a second toolchain beside the image's own.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gateway --bin forebay && \
    install -D target/release/forebay /out/forebay && mkdir /out/data

FROM debian:bookworm-slim
# For https:// backends; the slim image has no certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/forebay /usr/local/bin/forebay
# The one folder that is written to: run the rest with --read-only.
COPY --from=build --chown=65532:65532 /out/data /var/lib/forebay
VOLUME /var/lib/forebay
USER 65532:65532
ENV FOREBAY_LISTEN=0.0.0.0:8080 \
    FOREBAY_ADMIN_LISTEN=0.0.0.0:8081 \
    FOREBAY_OPS_LISTEN=0.0.0.0:8082
EXPOSE 8080 8081 8082
# SIGTERM drains: give the container `docker stop --time 130`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/forebay", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/forebay"]
CMD ["serve", "--config", "/etc/forebay/forebay.toml"]
