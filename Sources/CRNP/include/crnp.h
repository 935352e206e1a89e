#pragma once
#include <rnp/rnp.h>
#include <rnp/rnp_err.h>
#include <stddef.h>

/* The functions of librnp that this program calls. They are looked up when they are needed first: a program that
 * checks no OpenPGP signature does not load the library. */
#define CRNP_FUNCTIONS(F) \
    F(rnp_ffi_create) F(rnp_ffi_destroy) F(rnp_load_keys) F(rnp_buffer_destroy) F(rnp_input_from_memory) \
    F(rnp_input_destroy) F(rnp_output_to_memory) F(rnp_output_memory_get_buf) F(rnp_output_destroy) \
    F(rnp_op_verify_create) F(rnp_op_verify_detached_create) F(rnp_op_verify_execute) F(rnp_op_verify_destroy) \
    F(rnp_op_verify_get_signature_count) F(rnp_op_verify_get_signature_at) F(rnp_op_verify_signature_get_status) \
    F(rnp_op_verify_signature_get_handle) F(rnp_op_verify_signature_get_hash) F(rnp_signature_get_keyid) \
    F(rnp_signature_get_type) F(rnp_signature_handle_destroy) F(rnp_op_sign_cleartext_create) \
    F(rnp_op_sign_add_signature) F(rnp_op_sign_set_hash) F(rnp_op_sign_execute) F(rnp_op_sign_destroy) \
    F(rnp_identifier_iterator_create) F(rnp_identifier_iterator_next) F(rnp_identifier_iterator_destroy) \
    F(rnp_locate_key) F(rnp_key_handle_destroy) F(rnp_key_is_primary) F(rnp_key_get_fprint) \
    F(rnp_key_get_primary_fprint) F(rnp_key_get_primary_uid) F(rnp_key_get_uid_count) F(rnp_key_get_uid_at) \
    F(rnp_key_get_creation) F(rnp_key_get_expiration) F(rnp_key_get_bits) F(rnp_key_get_alg) F(rnp_key_is_revoked) \
    F(rnp_key_have_secret) F(rnp_key_is_protected) F(rnp_key_unlock) F(rnp_key_export) F(rnp_op_generate_create) \
    F(rnp_op_generate_subkey_create) F(rnp_op_generate_set_bits) F(rnp_op_generate_set_hash) \
    F(rnp_op_generate_set_userid) F(rnp_op_generate_set_expiration) F(rnp_op_generate_add_usage) \
    F(rnp_op_generate_set_protection_password) F(rnp_op_generate_set_protection_cipher) \
    F(rnp_op_generate_set_protection_hash) F(rnp_op_generate_set_protection_iterations) \
    F(rnp_op_generate_add_pref_hash) F(rnp_op_generate_add_pref_cipher) F(rnp_op_generate_execute) \
    F(rnp_op_generate_get_key) F(rnp_op_generate_destroy)

#define CRNP_MEMBER(name) __typeof__(&name) _Nonnull name;
struct crnp_functions {
    CRNP_FUNCTIONS(CRNP_MEMBER)
};

/* Loads the library and looks the functions up.
 * has_secrets: secret keys will be used, not only public ones.
 * Returns them, or NULL with a sentence in *why that stays valid until the next call. */
const struct crnp_functions *_Nullable crnp_load(int has_secrets, const char *_Nullable *_Nonnull why);
