{{ staged_events('events_b') }}
