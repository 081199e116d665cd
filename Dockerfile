# The image of Callbridge: one static binary, the authorities it trusts, and a
# user without rights. Nothing else is in it, not even a shell.
#
#   docker build --tag callbridge --build-arg VERSION=1.2.3 .
#   docker run --read-only --publish 8080:8080 --env-file callbridge.env \
#     --volume ./keyset.json:/etc/callbridge/keyset.json:ro callbridge

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, so that the binary knows the commit it was built from.
COPY . .
ARG TARGETOS
ARG TARGETARCH
# timetzdata: there is no zoneinfo in an empty image.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -tags=timetzdata -ldflags="-s -w" -o /out/callbridge .

FROM scratch
ARG VERSION=unreleased
LABEL org.opencontainers.image.title="Callbridge" \
      org.opencontainers.image.description="Shares analysed sales calls with Salesforce and Slack, only as far as an admin allowed" \
      org.opencontainers.image.source="https://github.com/optiwe/callbridge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/callbridge /callbridge
# By number: there is no /etc/passwd, and Kubernetes' runAsNonRoot wants one.
USER 65532:65532
# Loopback, the default, would be the container's own. CALLBRIDGE_PUBLIC_URL,
# CALLBRIDGE_REDIS_URL and CALLBRIDGE_KEYSET come from whoever runs it.
ENV CALLBRIDGE_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/callbridge", "healthcheck"]
ENTRYPOINT ["/callbridge"]
CMD ["serve"]
