{{ staged_events('events') }}
