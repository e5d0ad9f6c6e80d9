oauth2-proxy --provider=keycloak-oidc --client-id=app --client-secret=s3cret --redirect-url=https://app.example.com/oauth2/callback \
  --oidc-issuer-url=https://login.example.com/realms/main --email-domain='*' --upstream=http://127.0.0.1:8080 \
  --allowed-role=admin --allowed-role=app:editor --allowed-group=/staff --allowed-group=role:auditor --code-challenge-method=S256
