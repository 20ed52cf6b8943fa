{{ staged_events('snapshots') }}
