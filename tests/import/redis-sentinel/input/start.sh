#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=http://127.0.0.1:8080/ --session-store-type=redis --redis-use-sentinel --redis-sentinel-master-name=main \
  --redis-sentinel-connection-urls=redis://10.0.0.1:26379,redis://10.0.0.2:26379 --redis-sentinel-password=sentinel-s3cret \
  --redis-password=redis-s3cret --redis-username=proxy --redis-connection-idle-timeout=14
