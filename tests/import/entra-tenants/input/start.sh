oauth2-proxy --provider=entra-id --oidc-issuer-url=https://login.microsoftonline.com/organizations/v2.0 --client-id=app --client-secret=s3cret \
  --redirect-url=https://app.example.com/oauth2/callback --email-domain='*' --upstream=http://127.0.0.1:8080 \
  --entra-id-allowed-tenant=9188040d-6c67-4c5b-b112-36a304b66dad --entra-id-allowed-tenant=aaaaaaaa-6c67-4c5b-b112-36a304b66dad \
  --insecure-oidc-skip-issuer-verification=true --allowed-group=11111111-2222-3333-4444-555555555555
