SELECT
    fish,
    COUNT(*) AS orders,
    SUM(kilos) AS kilos
FROM {{ df_1 }}
GROUP BY fish
ORDER BY kilos DESC
