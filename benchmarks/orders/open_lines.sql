SELECT
    line,
    shop,
    product,
    quantity
FROM orders.order_line
WHERE ordered_on = %(as_of)s AND is_open
