{{ staged_events('truncated') }}
