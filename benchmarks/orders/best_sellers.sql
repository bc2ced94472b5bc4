SELECT
    shop,
    product,
    quantity
FROM (
    SELECT
        shop,
        product,
        sum(quantity) AS quantity,
        rank() OVER (PARTITION BY shop ORDER BY sum(quantity) DESC) AS place
    FROM orders.order_line
    WHERE ordered_on = %(as_of)s
    GROUP BY shop, product
) AS ranked
WHERE place <= 10
