SELECT warehouse.claim_batch('{{ staging }}', %(batch_id)s)
