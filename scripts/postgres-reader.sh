#!/bin/sh
# Run once by the postgres image on an empty volume: Grafana's own login, which can read the ledger and nothing else (its SQL comes from browsers).
# It reads what crewmeter makes in this schema. Captured content is taken from it when its table is made, so never grant pg_read_all_data.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$CREWMETER_GRAFANA_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE grafana_reader LOGIN PASSWORD :'password';
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana_reader;
ALTER ROLE grafana_reader SET default_transaction_read_only = on;
ALTER ROLE grafana_reader SET statement_timeout = '30s';
SQL
