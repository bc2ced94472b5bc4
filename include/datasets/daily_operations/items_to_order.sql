SELECT
    inventory_date,
    item_name,
    quantity_on_hand
FROM daily_operations.inventory
WHERE inventory_date = %(as_of)s AND order_more
