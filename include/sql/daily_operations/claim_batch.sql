SELECT warehouse.claim_batch('daily_operations_snapshots.{{ view }}', %(batch_id)s)
