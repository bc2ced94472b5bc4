SELECT
    customer,
    count(*) AS lines,
    sum(quantity * price) AS amount
FROM orders.order_line
WHERE ordered_on = %(as_of)s
GROUP BY customer
