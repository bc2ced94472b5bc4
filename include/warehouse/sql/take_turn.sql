-- A turn is now, or a minute after the one that it must not share a minute with. The second more is for requests that
-- are faster on their way than an earlier one.
INSERT INTO warehouse.request_limit AS taken (service, turns)
VALUES (%(service)s, ARRAY[clock_timestamp()])
ON CONFLICT (service) DO UPDATE
    SET
        turns = taken.turns[greatest(1, cardinality(taken.turns) - %(per_minute)s + 2):] || greatest(
            clock_timestamp(), taken.turns[cardinality(taken.turns) - %(per_minute)s + 1] + interval '61 seconds'
        )
RETURNING extract(EPOCH FROM turns[cardinality(turns)] - clock_timestamp()) AS seconds
