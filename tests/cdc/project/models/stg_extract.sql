{{ staged_events('extract') }}
