# The cargo glue: one custom target a library. Cargo knows what is out of date, so it is asked on every build; what it made
# is copied into ${evl_output_dir} only when different, so that nothing is linked again without need.

find_program(EVL_CARGO cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin" DOC "The cargo command")
if(NOT EVL_CARGO)
  message(FATAL_ERROR "evl is written in Rust: cargo was not found. Install Rust, or set EVL_CARGO.")
endif()

set(evl_output_dir "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(evl_include_dir "${CMAKE_CURRENT_BINARY_DIR}/include")
file(MAKE_DIRECTORY "${evl_output_dir}" "${evl_include_dir}") # an include directory must exist when targets are made

# The adapters for other libraries, <evl/...>: they are all header.
set(evl_adapters curl.h hiredis.h)
foreach(adapter IN LISTS evl_adapters)
  configure_file("${PROJECT_SOURCE_DIR}/include/evl/${adapter}" "${evl_include_dir}/evl/${adapter}" COPYONLY)
endforeach()

# evl_cargo_target(<name> <crate type> <profile> <header: generated, committed or none> <made files>...)
function(evl_cargo_target name crate_type profile header)
  set(in_all)
  if(EVL_INSTALL)
    set(in_all ALL)
  endif()
  add_custom_target(${name} ${in_all}
    COMMAND "${CMAKE_COMMAND}"
      "-DCARGO=${EVL_CARGO}"
      "-DCRATE_TYPE=${crate_type}"
      "-DPROFILE=${profile}"
      "-DHEADER=${header}"
      "-DFLAGS=${EVL_CARGO_FLAGS}"
      "-DTARGET_DIR=${EVL_CARGO_TARGET_DIR}"
      "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}"
      "-DOUTPUT_DIR=${evl_output_dir}"
      "-DINCLUDE_DIR=${evl_include_dir}"
      "-DVERSION=${PROJECT_VERSION}"
      "-DSONAME=${evl_soname}"
      -P "${PROJECT_SOURCE_DIR}/cmake/run_cargo.cmake"
    BYPRODUCTS ${ARGN}
    COMMENT "cargo: evl ${PROJECT_VERSION} ${crate_type}"
    USES_TERMINAL
    VERBATIM)
endfunction()

set(evl_header committed)
if(EVL_GENERATE_HEADER)
  set(evl_header generated)
endif()

# The header comes with the shared library when both are built: cargo would build cbindgen once a profile.
if(EVL_BUILD_SHARED)
  evl_cargo_target(evl_cargo_shared cdylib release ${evl_header}
    "${evl_output_dir}/libevl.so.${PROJECT_VERSION}" "${evl_output_dir}/${evl_soname}" "${evl_output_dir}/libevl.so"
    "${evl_include_dir}/evl.h")
  if(EVL_BUILD_STATIC)
    evl_cargo_target(evl_cargo_static staticlib static none "${evl_output_dir}/libevl.a")
    add_dependencies(evl_cargo_static evl_cargo_shared)
  endif()
else()
  evl_cargo_target(evl_cargo_static staticlib static ${evl_header}
    "${evl_output_dir}/libevl.a" "${evl_include_dir}/evl.h")
endif()
