/* Addresses of sockets as Python has them; look-ups. */
#include "evl_python.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int family_of(int fd) {
    struct sockaddr_storage storage;
    socklen_t size = sizeof storage;
    return getsockname(fd, (struct sockaddr *)&storage, &size) == 0 ? storage.ss_family : AF_UNSPEC;
}

PyObject *address_from_c(const void *address, size_t size) {
    if (address == NULL || size < sizeof(sa_family_t))
        Py_RETURN_NONE;
    char text[INET6_ADDRSTRLEN + 32];
    const struct sockaddr *any = address;
    switch (any->sa_family) {
    case AF_INET: {
        const struct sockaddr_in *in = address;
        const unsigned char *bytes = (const unsigned char *)&in->sin_addr;
        size_t length = 0;
        for (int i = 0; i < 4; i++) {
            if (bytes[i] >= 100)
                text[length++] = (char)('0' + bytes[i] / 100);
            if (bytes[i] >= 10)
                text[length++] = (char)('0' + bytes[i] / 10 % 10);
            text[length++] = (char)('0' + bytes[i] % 10);
            text[length++] = '.';
        }
        return Py_BuildValue("s#i", text, (Py_ssize_t)length - 1, ntohs(in->sin_port));
    }
    case AF_INET6: {
        const struct sockaddr_in6 *in6 = address;
        int port;
        if (in6->sin6_scope_id == 0)
            inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        else if (evl_address_format(address, (uint32_t)size, text, sizeof text, &port) < 0)
            text[0] = '\0';
        return Py_BuildValue("siII", text, ntohs(in6->sin6_port), ntohl(in6->sin6_flowinfo), in6->sin6_scope_id);
    }
    case AF_UNIX: {
        const struct sockaddr_un *un = address;
        size_t length = size - offsetof(struct sockaddr_un, sun_path);
        if (length > sizeof un->sun_path)
            length = size < offsetof(struct sockaddr_un, sun_path) ? 0 : sizeof un->sun_path;
        if (length > 0 && un->sun_path[0] == '\0')
            return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)length);
        return PyUnicode_DecodeFSDefaultAndSize(un->sun_path, (Py_ssize_t)strnlen(un->sun_path, length));
    }
    default:
        return Py_BuildValue("iy#", any->sa_family, (const char *)any->sa_data, (Py_ssize_t)(size - sizeof(sa_family_t)));
    }
}

static int unix_address(PyObject *address, struct sockaddr_un *un) {
    PyObject *bytes;
    if (PyUnicode_Check(address))
        bytes = PyUnicode_EncodeFSDefault(address);
    else
        bytes = PyBytes_FromObject(address);
    if (bytes == NULL)
        return -1;
    size_t length = (size_t)PyBytes_GET_SIZE(bytes);
    if (length >= sizeof un->sun_path + (length > 0 && PyBytes_AS_STRING(bytes)[0] == '\0')) {
        PyErr_SetString(PyExc_OSError, "AF_UNIX path too long");
        Py_DECREF(bytes);
        return -1;
    }
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, PyBytes_AS_STRING(bytes), length);
    bool path = length > 0 && un->sun_path[0] != '\0';
    Py_DECREF(bytes);
    return (int)(offsetof(struct sockaddr_un, sun_path) + length + (path ? 1 : 0));
}

int address_to_c(int family, PyObject *address, void *buffer, size_t size) {
    if (address == Py_None)
        return 0;
    if (family == AF_UNIX)
        return unix_address(address, buffer);
    if (family != AF_INET && family != AF_INET6) {
        PyErr_Format(PyExc_OSError, "addresses of family %d are not supported", family);
        return -1;
    }
    const char *host;
    int port;
    unsigned int flow = 0, scope = 0;
    if (!PyTuple_Check(address)) {
        PyErr_Format(PyExc_TypeError, "address must be a tuple, not %.100s", Py_TYPE(address)->tp_name);
        return -1;
    }
    if (!PyArg_ParseTuple(address, family == AF_INET ? "si" : "si|II", &host, &port, &flow, &scope))
        return -1;
    if (port < 0 || port > 65535) {
        PyErr_SetString(PyExc_OverflowError, "port must be 0-65535");
        return -1;
    }
    memset(buffer, 0, size < sizeof(struct sockaddr_in6) ? size : sizeof(struct sockaddr_in6));
    if (family == AF_INET) {
        struct sockaddr_in *in = buffer;
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        if (strcmp(host, "<broadcast>") == 0)
            in->sin_addr.s_addr = INADDR_BROADCAST;
        if (host[0] == '\0' || in->sin_addr.s_addr != 0 || inet_pton(AF_INET, host, &in->sin_addr) == 1)
            return sizeof *in;
    } else {
        struct sockaddr_in6 *in6 = buffer;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        in6->sin6_flowinfo = htonl(flow);
        in6->sin6_scope_id = scope;
        if (host[0] == '\0' || inet_pton(AF_INET6, host, &in6->sin6_addr) == 1)
            return sizeof *in6;
        if (evl_address_parse(host, port, buffer, (uint32_t)size) == sizeof *in6 && in6->sin6_family == AF_INET6) {
            in6->sin6_flowinfo = htonl(flow);
            return sizeof *in6;
        }
    }
    /* A name: the system is asked, as the socket module does. */
    PyObject *found = PyObject_CallFunction(classes.resolve, "Oi", address, family);
    if (found == NULL)
        return -1;
    int result = -1;
    if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) < 2 || PyObject_RichCompareBool(found, address, Py_EQ) != 0)
        PyErr_SetString(PyExc_OSError, "the address cannot be resolved");
    else
        result = address_to_c(family, found, buffer, size);
    Py_DECREF(found);
    return result;
}

static PyObject *read_addresses(evl_future *future, void *data) {
    (void)data;
    void *value;
    int code = evl_future_result(future, &value);
    if (code < 0)
        return fail(code);
    int count = evl_addresses_count(value);
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < count; i++) {
        evl_address_info info = {.size = sizeof info};
        code = evl_addresses_get(value, (size_t)i, &info);
        PyObject *address = code < 0 ? fail(code) : address_from_c(info.address, info.address_size);
        PyObject *entry = address == NULL ? NULL
                                          : Py_BuildValue("iiisN", info.family, info.type, info.protocol,
                                                          info.canonical_name != NULL ? info.canonical_name : "", address);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

static PyObject *read_names(evl_future *future, void *data) {
    (void)data;
    const char *host, *service;
    int code = evl_future_result_names(future, &host, &service);
    return code < 0 ? fail(code) : Py_BuildValue("ss", host, service);
}

static PyObject *getaddrinfo_(Loop *self, PyObject *args) {
    const char *host, *service;
    evl_address_hints hints = {.size = sizeof hints};
    evl_future *future;
    if (!PyArg_ParseTuple(args, "zziiii", &host, &service, &hints.family, &hints.type, &hints.protocol, &hints.flags))
        return NULL;
    int code = evl_loop_getaddrinfo(self->loop, host, service, &hints, &future);
    return code < 0 ? fail(code) : operation(self, future, read_addresses, NULL, NULL, NULL);
}

static PyObject *getnameinfo_(Loop *self, PyObject *args) {
    PyObject *address;
    int flags, family;
    struct sockaddr_storage storage;
    evl_future *future;
    if (!PyArg_ParseTuple(args, "iOi", &family, &address, &flags))
        return NULL;
    int size = address_to_c(family, address, &storage, sizeof storage);
    if (size < 0)
        return NULL;
    int code = evl_loop_getnameinfo(self->loop, &storage, (uint32_t)size, flags, &future);
    return code < 0 ? fail(code) : operation(self, future, read_names, NULL, NULL, NULL);
}

PyMethodDef loop_dns_methods[] = {
    {"_getaddrinfo", (PyCFunction)getaddrinfo_, METH_VARARGS, NULL},
    {"_getnameinfo", (PyCFunction)getnameinfo_, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
