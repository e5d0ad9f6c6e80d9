oauth2-proxy --provider=adfs --oidc-issuer-url=https://adfs.example.com/adfs --client-id=app --client-secret=s3cret \
  --redirect-url=https://app.example.com/oauth2/callback --email-domain=example.com --upstream=http://127.0.0.1:8080 --resource=urn:app
