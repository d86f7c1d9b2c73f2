#!/bin/sh
# Makes what docker-compose.yml needs and the repository must not hold: a Redis password (.env), an admin key
# (printed once; only its digest is kept, in secrets/api_keys.json), and a self-signed pair (tls/) to begin with.
# What is there already is left as it is.  Usage: deploy/prepare.sh [host name]
set -eu
cd "$(dirname "$0")"
umask 077
name=${1:-taskiq-flow.example.com}

if [ ! -e .env ]; then
    printf 'REDIS_PASSWORD=%s\nHTTP_PORT=80\nHTTPS_PORT=443\n' "$(openssl rand -hex 32)" > .env
    echo "wrote .env with a new Redis password" >&2
fi

if [ ! -e secrets/api_keys.json ]; then
    mkdir -p secrets
    key="tqf_$(openssl rand -hex 32)"
    digest=$(printf %s "$key" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    printf '{"sha256:%s": {"id": "admin", "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"]}}\n' \
        "$digest" > secrets/api_keys.json
    # The container's user, which is not this one, reads it.
    chmod 644 secrets/api_keys.json
    echo "wrote secrets/api_keys.json; this is the key, and it is shown this once:" >&2
    echo "$key"
fi

if [ ! -e tls/fullchain.pem ]; then
    mkdir -p tls
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=$name" \
        -addext "subjectAltName=DNS:$name,DNS:localhost" -keyout tls/privkey.pem -out tls/fullchain.pem 2>/dev/null
    echo "wrote a self-signed pair for $name to tls/; put a real one in its place" >&2
fi
