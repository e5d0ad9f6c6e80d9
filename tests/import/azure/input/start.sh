oauth2-proxy --provider=azure --azure-tenant=9188040d-6c67-4c5b-b112-36a304b66dad --client-id=app --client-secret=s3cret \
  --redirect-url=https://app.example.com/oauth2/callback --email-domain=example.com --upstream=http://127.0.0.1:8080 \
  --azure-graph-group-field=displayName --resource=https://graph.microsoft.com
