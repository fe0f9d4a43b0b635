#include "gateway/balancer.h"

#include "gateway/gateway_config.h"
#include "net/subnet.h"

#include <stdlib.h>

struct balancer {
    size_t n;
    struct subnet subnets[];
};

void balancer_check(const struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    const struct config_section *section = gateway->service.section;
    bool given = gateway->accept_proxy_from.n > 0, local = gateway->service.listen_address.kind == ADDRESS_UNIX;

    for (size_t i = 0; i < gateway->accept_proxy_from.n; i++) {
        struct error err = ERROR_INIT;
        struct subnet subnet;

        if (subnet_parse(gateway->accept_proxy_from.items[i], &subnet, &err) != ERROR_NONE)
            config_errors_add(errors, config_line(section, "accept-proxy-from"), "accept-proxy-from: %s", err.text);
    }
    if (given && !gateway->accept_proxy)
        config_errors_add(errors, config_line(section, "accept-proxy-from"),
                          "accept-proxy-from has no effect without accept-proxy = true");
    else if (given && local)
        config_errors_add(errors, config_line(section, "accept-proxy-from"),
                          "accept-proxy-from has no effect on a UNIX socket: whoever may connect to it is believed");
    else if (!given && gateway->accept_proxy && !local)
        config_errors_add(errors, config_line(section, "accept-proxy"),
                          "accept-proxy = true believes whoever connects: give accept-proxy-from = {\"ADDRESS\"}, the "
                          "load balancers' addresses or networks");
}

result balancer_new(const struct gateway_config_gateway *gateway, struct balancer **ret, struct error *err)
{
    const struct config_list *list = &gateway->accept_proxy_from;
    struct balancer *balancer;

    if (!gateway->accept_proxy)
        return ERROR_NONE;
    balancer = calloc(1, sizeof(*balancer) + list->n * sizeof(balancer->subnets[0]));
    if (balancer == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    while (balancer->n < list->n) {
        result r = subnet_parse(list->items[balancer->n], &balancer->subnets[balancer->n], err);

        if (r != ERROR_NONE) {
            balancer_free(balancer);
            return r;
        }
        balancer->n++;
    }
    *ret = balancer;
    return ERROR_NONE;
}

bool balancer_is_at(const struct balancer *balancer, const struct address_socket *address)
{
    return address->any.sa_family == AF_UNIX || subnet_contains(balancer->subnets, balancer->n, address);
}

void balancer_free(struct balancer *balancer)
{
    free(balancer);
}
