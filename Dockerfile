# One file for every process. `docker build --target payments .` makes the image of one of them.

FROM debian:bookworm-slim AS runtime
RUN groupadd --system --gid 10001 backburner \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin backburner
# The authorities by which servers that use TLS are known, unless a setting names others.
COPY --from=rust:1-bookworm /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY deploy/container/ready /usr/local/bin/
USER 10001

# The manifests, with empty sources: what the dependencies' layer is made of. It changes when a Cargo.toml or Cargo.lock
# does, not when code does.
FROM debian:bookworm-slim AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
 && find . -mindepth 2 -name Cargo.toml | while read -r manifest; do \
      sources=$(dirname "$manifest")/src; mkdir -p "$sources"; \
      touch "$sources/lib.rs"; echo 'fn main() {}' > "$sources/main.rs"; \
    done

FROM rust:1-bookworm AS build
WORKDIR /src
ENV CARGO_INCREMENTAL=0
COPY --from=manifests /src .
RUN cargo build --release --locked -p gateway -p orders -p payments -p delivery -p dlq-inspector -p audit
# Docker keeps the times of the files it copies: without the touch, cargo would take them for older than what it built.
COPY . .
RUN find . -name '*.rs' -not -path './target/*' -exec touch {} + \
 && cargo build --release --locked -p gateway -p orders -p payments -p delivery -p dlq-inspector -p audit
# Of what a debugger reads, what gives a backtrace its files and lines, compressed, in which form Rust reads it too. The table of symbols
# would be 5 MB more; without it, a frame of a function that was not inlined has its line and no name.
RUN mkdir /binaries \
 && for binary in gateway orders payments delivery dlq-inspector audit; do \
      objcopy --strip-unneeded --keep-section='.debug_[iasr]*' --keep-section='.debug_line*' --compress-debug-sections=zlib \
        "target/release/$binary" "/binaries/$binary" || exit; \
    done

FROM runtime AS gateway
COPY --from=build /binaries/gateway /usr/local/bin/
EXPOSE 8000 9100
ENTRYPOINT ["gateway"]

FROM runtime AS orders
COPY --from=build /binaries/orders /usr/local/bin/
EXPOSE 8081 9101
ENTRYPOINT ["orders"]

FROM runtime AS payments
COPY --from=build /binaries/payments /usr/local/bin/
EXPOSE 9102
ENTRYPOINT ["payments"]

FROM runtime AS delivery
COPY --from=build /binaries/delivery /usr/local/bin/
EXPOSE 9103
ENTRYPOINT ["delivery"]

FROM runtime AS dlq-inspector
COPY --from=build /binaries/dlq-inspector /usr/local/bin/
ENTRYPOINT ["dlq-inspector"]

FROM runtime AS audit
COPY --from=build /binaries/audit /usr/local/bin/
ENTRYPOINT ["audit"]
