SELECT
    shop,
    count(DISTINCT product) AS products,
    sum(quantity) AS quantity,
    sum(quantity * price) AS amount
FROM orders.order_line
WHERE ordered_on = %(as_of)s
GROUP BY shop
