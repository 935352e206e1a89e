/* Interfaces of a network namespace, see netdevice(7) and the kernel's networking/tuntap. */
#define _GNU_SOURCE
#include "clinux.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int bring_up(int fd, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int closing(int fd, int result) {
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

int clinux_bring_up_loopback(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    return closing(fd, bring_up(fd, "lo"));
}

static int set_address(int fd, const char *name, unsigned long what, uint32_t address) {
    struct ifreq request;
    struct sockaddr_in value;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    memset(&value, 0, sizeof value);
    value.sin_family = AF_INET;
    value.sin_addr.s_addr = htonl(address);
    memcpy(&request.ifr_addr, &value, sizeof value);
    return ioctl(fd, what, &request);
}

static int configure(int fd, const char *name, const unsigned char *hardware, uint32_t address, uint32_t mask, int mtu) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, hardware, 6);
    if (ioctl(fd, SIOCSIFHWADDR, &request) != 0) return -1;
    memset(&request.ifr_hwaddr, 0, sizeof request.ifr_hwaddr);
    request.ifr_mtu = mtu;
    if (ioctl(fd, SIOCSIFMTU, &request) != 0) return -1;
    if (set_address(fd, name, SIOCSIFADDR, address) != 0) return -1;
    if (set_address(fd, name, SIOCSIFNETMASK, mask) != 0) return -1;
    return bring_up(fd, name);
}

int clinux_tap(const char *name, const unsigned char *hardware, uint32_t address, uint32_t mask, int mtu) {
    struct ifreq request;
    int control, tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tap < 0) return -1;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(tap, TUNSETIFF, &request) != 0) return closing(tap, -1);
    control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) return closing(tap, -1);
    if (closing(control, configure(control, name, hardware, address, mask, mtu)) != 0) return closing(tap, -1);
    return tap;
}
